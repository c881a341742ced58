"""What is decided of a layout, a file for each: who writes, forms and encodings of columns, order, codec, sizes, folders."""
