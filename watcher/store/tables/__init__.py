"""Table definitions, one file per subject; a comment on every table and column is its documentation."""
