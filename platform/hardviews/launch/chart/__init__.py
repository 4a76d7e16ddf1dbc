"""The Helm chart as this package sees it: its values as jobs, its schema in words, the checks of `helm test`."""
