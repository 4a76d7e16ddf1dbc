"""The Helm chart: its values as jobs, its schema in words, the checks of `helm test`."""
