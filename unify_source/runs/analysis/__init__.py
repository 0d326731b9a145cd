"""What analysts use: views that answer questions, and tables and views as files."""
