"""From YAML to cells: experiments, profiles, and trials of authors' classes."""
