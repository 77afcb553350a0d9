#!/usr/bin/env bash
# Open MPI's mpirun for the ranks of this machine, from this bundle wherever it lies.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OPAL_PREFIX=$here/mpi OPAL_BINDIR=$here/mpi OPAL_LIBDIR=$here/lib OPAL_SYSCONFDIR=$here/mpi
export OPAL_PKGLIBDIR=$here/mpi/plugins OPAL_PKGDATADIR=$here/mpi
export OMPI_MCA_plm=isolated PMIX_MCA_pcompress_base_silence_warning=1
exec "$here/mpi/orterun" "$@"
