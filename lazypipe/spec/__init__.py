"""What the user wrote: the model, its loader with source positions, its JSON Schema, its Python builder."""
