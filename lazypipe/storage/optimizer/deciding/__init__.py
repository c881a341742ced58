"""The decisions of a layout, one file for each: writer, forms and encodings of columns, order, codec, sizes, folders."""
