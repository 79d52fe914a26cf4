"""Other agent libraries, one small adapter each, measured on request in environments of their own."""
