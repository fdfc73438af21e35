"""From YAML to cells: experiments, profiles, checks of what authors wrote."""
