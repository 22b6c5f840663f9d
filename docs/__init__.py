"""The manual, and in `generate` what makes its reference pages and puts its site together."""
