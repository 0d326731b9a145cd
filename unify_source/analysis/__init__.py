"""What an analyst asks for: views that answer questions, and tables and views as files."""
