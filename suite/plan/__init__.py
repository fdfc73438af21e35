"""From YAML to cells: experiments, profiles, and trials of what authors wrote."""
