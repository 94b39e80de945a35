"""Subcommands of `linkmode` that are rooms of their own."""
