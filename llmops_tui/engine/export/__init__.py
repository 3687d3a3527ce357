"""A run in the form that other tools read: TensorBoard's event files, MLflow's file store, CSV."""
