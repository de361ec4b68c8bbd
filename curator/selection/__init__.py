"""Selection of rows that cover the pool and resemble the tasks least, within limits and with a certificate."""
