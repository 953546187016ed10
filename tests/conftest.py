"""What all tests share."""

from hypothesis import HealthCheck, settings

# No test may fail because a machine is slow; and a red build must be red again when it is looked into.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("steady")
