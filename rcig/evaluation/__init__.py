"""What a distilled set is worth: fresh networks are trained on it alone and tested on the test split."""
