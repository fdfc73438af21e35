"""From finished folders to curves, scores, claims, figures, tables and pages."""
