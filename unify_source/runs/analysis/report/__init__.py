"""`report`: one page that shows what the models answer."""
