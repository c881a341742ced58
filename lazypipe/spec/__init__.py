"""The definition as the user wrote it: the model, its loader with source positions, its JSON Schema."""
