"""Document stores: how fast they fill and answer, what memory they take, and how well they find."""
