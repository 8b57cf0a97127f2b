"""Losses on batches of images: focal frequency, adversarial, and those compared with it in Table 7."""
