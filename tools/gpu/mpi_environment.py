"""What Open MPI is told in the environment of a job that this tree's scripts start. Other places: tools/dev for shells,
tests/CMakeLists.txt for CTest. It lies here since bundles carry this folder."""

# As root; more ranks than cores, first for Open MPI 4, then for 5; no lock in shared memory (PMIx 4.2 can wait in it for ever).
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PMIX_MCA_gds": "hash",
}
