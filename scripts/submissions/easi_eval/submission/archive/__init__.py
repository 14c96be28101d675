"""``easi_results.zip``: packing, reading and anonymising the files behind the scores."""
