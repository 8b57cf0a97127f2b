"""The paper's tables as data, the runs that they stand for, and the tables made from them."""
