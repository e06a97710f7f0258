"""Tasks: multiple choice, schema and language modelling; items of a file -> requests -> scores."""
