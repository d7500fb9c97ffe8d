"""The judge: inputs, truth, comparison, static checks, localisation, reports."""
