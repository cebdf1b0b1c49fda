"""The bundled scenarios: data only, importable as `kflab_scenarios` so that they travel in the wheel."""
