"""What train.py refuses on its command line, before any data is read."""

import torch

from bad_input.case import Case
from bad_input.place import TINY, TINY_DATA, TINY_STEPS, Place


def refused(
    id: str,
    words: str,
    cause: str,
    fix: str,
    why: str,
    *,
    base: tuple[str, ...] = TINY,
    skip: str | None = None,
) -> Case:
    """A command line that is wrong whatever the data; with ``base`` it would be over in a moment if it were taken."""
    arguments = (*base, *words.split(" "))
    return Case(f"train-{id}", "train.py", arguments, cause, fix, why, Place.images, skip=skip)


NO_DATA = TINY_STEPS  # for words that choose another data set

CASES = [
    # Keys and groups that do not exist
    refused("misspelt-key", "loss.alfa=1", r"unknown key loss\.alfa", r"did you mean loss\.alpha", "a typing error"),
    refused("misspelt-top-key", "sede=1", "unknown key sede", "did you mean seed", "a typing error"),
    refused("misspelt-group", "modle=vae", "unknown key modle", r"did you mean model\?", "a typing error"),
    refused("misspelt-section", "trianer.epochs=3", r"unknown key trianer\.epochs", r"did you mean trainer\.epochs",
            "a typing error"),
    refused("key-of-hydra", "hydra.verbos=true", r"unknown key hydra\.verbos", "see --hydra-help", "a typing error"),
    refused("added-key", "+trainer.foo=1", r"unknown key trainer\.foo", "allowed: ", "Hydra would add it unasked"),
    refused("key-of-another-model", "model.dropout=0.5", r"unknown key model\.dropout", "allowed: ", "pix2pix has it"),
    refused("target", "+model._target_=os.system", r"unknown key model\._target_", "allowed: ", "Hydra would call it"),
    refused("removed-key", "~seed", "seed", "expected an integer|a plain value|missing", "nothing to seed with"),
    refused("no-such-model", "model=resnet", "model=resnet: no such choice", "one of ae, pix2pix", "not implemented"),
    refused("no-such-dataset", "dataset=imagenet", "dataset=imagenet: no such", "one of ade20k, celeba", "no such data",
            base=NO_DATA),
    refused("no-such-preset", "trainer=gpus", "trainer=gpus: no such choice", r"one of .*default[^:/]*$", "a plural"),
    refused("group-null", "model=null", "model", "one of ae, pix2pix", "meant: no model"),
    refused("group-number", "loss=5", "loss", "one of|loss.weight", "meant: loss.weight=5"),
    refused("mandatory-value", "dataset=folder", r"dataset\.folder", r"dataset\.folder=|folder=DIR", "no default",
            base=NO_DATA),
    # Types and ranges
    refused("text-for-number", "loss.alpha=high", r"loss\.alpha=high", "expected a number", "a word"),
    refused("not-a-number", "loss.alpha=nan", r"loss\.alpha=nan", "expected a.* number", "trained to the end"),
    refused("infinite", "loss.weight=inf", r"loss\.weight=inf", "expected a.* number", "trained to the end"),
    refused("negative-weight", "loss.weight=-1", r"loss\.weight=-1", "at least 0", "would push images apart"),
    refused("no-patches", "loss.patch_factor=0", r"loss\.patch_factor=0", "at least 1", "no patch at all"),
    refused("no-such-transform", "loss.transform=fft", r"loss\.transform=fft", "one of dft, dct", "another name"),
    refused("truth", "loss.ffl=maybe", r"loss\.ffl=maybe", "true or false", "neither"),
    refused("options-exclude", "loss.ffl=true loss.transform=dct loss.ablation=no_phase", "no_phase", 'transform="dft"',
            "a DCT has no phase"),
    refused("fraction-of-image", "trainer.batch_size=1.5", r"trainer\.batch_size=1\.5", "an integer", "half an image"),
    refused("empty-batch", "trainer.batch_size=0", r"trainer\.batch_size=0", "at least 1", "no image"),
    refused("no-steps", "trainer.steps=-1", r"trainer\.steps=-1", "at least 1", "would train nothing"),
    refused("many-threads", "trainer.threads=5000", r"trainer\.threads=5000", "at most|from 1 to|below",
            "the threading library ends the process"),
    refused("long-decay", "trainer.epochs=1 trainer.lr_decay_epochs=3", "lr_decay_epochs=3", r"trainer\.epochs=1",
            "longer than the run"),
    refused("negative-rate", "model.lr=-1", r"model\.lr=-1", "above 0|positive", "ascends"),
    refused("betas-beyond-1", "model.betas=[1.5,0]", r"model\.betas=\[1\.5, 0\]", "below 1", "Adam diverges"),
    refused("one-beta", "model.betas=[0.5]", r"model\.betas=\[0\.5\]", "a list of 2", "Adam has two"),
    refused("no-width", "model.hidden_dim=0", r"model\.hidden_dim=0", "at least 1", "a network of nothing"),
    refused("one-layer", "model.num_layers=1", r"model\.num_layers=1", "at least 2", "no encoder and decoder"),
    refused("no-channels", "model=vae dataset.image_size=16 model.channels=0", r"model\.channels=0",
            "from 1 to|at least 1", "no features"),
    refused("negative-seed", "seed=-1", "seed=-1", "must not be negative|at least 0", "generators refuse it"),
    refused("huge-seed", f"seed={10**30}", f"seed={10**30}", "at most|below|up to|less than", "more than 64 bits"),
    refused("cuda", "trainer.accelerator=cuda", "cuda: this machine has no usable CUDA device", "cpu or auto",
            "a machine without a GPU", skip="this machine has a GPU" if torch.cuda.is_available() else None),
    refused("tpu", "trainer.accelerator=tpu", r"trainer\.accelerator=tpu", "one of auto, cpu, cuda", "not supported"),
    # Command lines that cannot be read
    refused("sweep-without-m", "loss.alpha=1,2", r"loss\.alpha=1,2", "-m", "meant as a sweep"),
    refused("sweep-with-bad-point", "-m loss.ffl=true loss.alpha=1,high", r"loss\.alpha=high", "expected a number",
            "would be found when the first half is trained"),
    refused("no-value", "loss.ffl", r"loss\.ffl", "key=value", "forgot =true"),
    refused("no-key", "=5", "=5", "key=value|one of", "a space too many"),
    refused("empty-word", "", "command line", "key=value", "an empty shell variable"),
    refused("flag", "--bogus", "--bogus", "key=value|--help", "options of other programs"),
    refused("other-config", "--config-name=evaluate", "--config-name", "key=value|--help|leave", "Hydra would take it"),
    refused("no-such-launcher", "-m hydra/launcher=pbs seed=1,2", "hydra/launcher=pbs", "one of|installed|basic",
            "another cluster"),
    refused("no-such-variable", "seed=${oc.env:FFL_NO_SUCH}", "FFL_NO_SUCH", "seed|set it|plain value", "not exported"),
    # Names of run directories
    refused("name-outside", "name=../../evil", r"name=\.\./\.\./evil", "name", "would write outside output_root"),
    refused("name-with-slash", "name=a/b", "name=a/b", "one directory|letters|without", "no such parent"),
    refused("name-empty", "name=''", "name=", "null|letters|leave", "would be called -2"),
    refused("name-too-long", f"name={'x' * 300}", "name=xxx", "characters|shorter", "no file system takes it"),
    refused("resume-nowhere", "resume=nowhere", "nowhere", "run directory", "moved away"),
    refused("resume-empty", "resume=", "resume=", "auto|DIR|run directory", "would be the working directory"),
    # Models, data sets and losses that do not fit together
    refused("no-source", "model=pix2pix", "no source", "choose one of photos, facades", "pix2pix on single images"),
    refused("label-channels", "model=spade dataset=cityscapes model.label_channels=20", r"label_channels=20",
            r"set model\.label_channels=35", "the classes that are evaluated are 19", base=NO_DATA),
    refused("vae-size", "model=vae dataset.image_size=60", "image_size=60x60", "power of two", "halves do not end"),
    refused("patches-of-image", "loss.ffl=true loss.patch_factor=3", r"loss\.patch_factor=3", "divisor|divide",
            "8 pixels in 3 patches; found in the first step, when the run is made"),
    refused("label-levels", "model=spade dataset=photos dataset.label_levels=9",
            r"model\.label_channels=8: photos has 9", r"set model\.label_channels=9", "a step more", base=NO_DATA),
    refused("no-vgg-weights", "model=spade dataset=photos dataset.label_levels=8", "vgg19",
            r"download_weights\.py vgg19, or pip.*model\.vgg_network=stlpips_vgg", "never downloaded", base=NO_DATA),
    refused("no-default-folder", "dataset=celeba_64 data_root=nowhere", "folder nowhere/celeba_64 is missing",
            "CelebA resized", "not unpacked yet", base=NO_DATA),
    refused("all-losses-off", "model.mse_weight=0", "every loss is off", r"loss\.ffl=true", "nothing to learn from"),
    refused("large-batch", "trainer.batch_size=9", r"trainer\.batch_size=9", "smaller batch", "the split has 8 images"),
    refused("no-perceptual-weights", "loss.perceptual=1", "vgg16",
            r"download_weights\.py vgg16, or pip.*loss\.perceptual_network=stlpips_vgg", "never downloaded"),
    refused("no-such-perceptual-network", "loss.perceptual_network=vgg19", "perceptual_network=vgg19",
            "one of vgg16, stlpips_vgg", "SPADE's, which has other layers"),
    refused("fractured-photos", "dataset=photos dataset.image_size=100000", "image_size=100000", "use 470 or less",
            "more than any photograph holds", base=NO_DATA),
    refused("many-photos", "dataset=photos dataset.label_levels=300", "label_levels=300", "from 0 to 256|at most 256",
            "brightness has 256 levels", base=NO_DATA),
    # Places that cannot be written
    Case("train-output-root-is-file", "train.py", (*TINY, "output_root=x/000000.png"), "000000.png", "output_root=",
         "a file has that name", Place.images),
    Case("train-cache-dir-is-file", "train.py", (*TINY, "cache_dir=x/000000.png"), "000000.png", "cache_dir",
         "a file has that name", Place.images),
    Case("train-garbage-weights", "train.py", (*TINY_DATA, *TINY_STEPS, "loss.perceptual=1"), "vgg16.*5 bytes",
         "get it again from http", "an error page was saved as weights",
         lambda place: (place.images(), place.write({"weights/vgg16-397923af.pth": b"<html"}))),
]  # fmt: skip
