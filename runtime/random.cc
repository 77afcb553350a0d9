#include "runtime/random.h"
