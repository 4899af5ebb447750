"""Networks that users bring: each file turns one framework's description into a Model."""
