"""How data is best kept: measured choices of types, encodings, order and files, and what keeps them good."""
