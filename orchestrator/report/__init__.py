"""What a run found, for people: tables, figures, one HTML page, and tables for the terminal.

The way of a row to the page: `writing.write_report` reads the run's Parquet files into `ReportTables`, without the
memories. `page.render_page` calls every function of `figures/all_figures.py:FIGURES`. Each computes its numbers in a
module without plotly (such as `success.py`), and returns a plotly figure with its caption, or None if the run has
nothing to draw. `page.html.j2` carries the figures as JSON, and `page.js` draws one when it is scrolled to.
"""
