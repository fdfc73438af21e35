"""From finished folders to tables, figures and pages."""
