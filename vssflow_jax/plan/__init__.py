"""What a plan is made of: chips, topologies, counts, memory, measurement, estimates, reports."""
