"""Text in, text out: ways to rewrite a text so that it should keep its label, one file a method."""
