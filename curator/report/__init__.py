"""What a run found, as one JSON object and as pages: `contents.report_dict`, `page.markdown`, `summary.summary`."""
