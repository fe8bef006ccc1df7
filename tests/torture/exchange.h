#pragma once
#include "transfer.h"

/* Run one side of the connection to its end, report and end the process. */
_Noreturn void exchange(struct conn *conn);
