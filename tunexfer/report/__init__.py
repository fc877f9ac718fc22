"""The results of a search: tables, figures and one self-contained page, from study folders alone."""
