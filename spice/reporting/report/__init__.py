"""A report: the facts of finished runs, and one page that shows them."""
