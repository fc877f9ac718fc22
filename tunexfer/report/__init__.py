"""What a search found: tables, figures and one self-contained page, from study folders alone."""
