-- Wall seconds times GPUs held, and the joules those GPUs drew meanwhile (NULL: nothing told it), over all attempts of a run.
ALTER TABLE runs ADD COLUMN gpu_seconds DOUBLE;
ALTER TABLE runs ADD COLUMN energy_joules DOUBLE;
