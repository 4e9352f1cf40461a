/* device/paced.h - a device that computes as another one does, but takes a set time for each run.
 *
 * For measuring how several machines work together on one machine: eight stages on two cores say
 * nothing about a pipeline unless each has a machine of its own.  Here a run is computed by the
 * inner device at once, and its completion is held back until the set time has passed.  Runs of
 * one paced device follow one another: the time of a run begins when it was submitted and all
 * runs before it have ended, in whatever queues they are.  While time passes no processor is used.
 * Moving bytes takes no time of its own, but a command is complete only when the runs before it
 * in its queue are.
 *
 * Results, tickets, failures and messages are the inner device's.  A run that takes the inner
 * device longer than its set time is complete when the inner device is done with it; that moves no
 * later run.  A run that is cancelled ends at once, also if it was computed already.
 *
 * The inner device is borrowed: it stays open longer than this one.
 * Threads: as device.h says.
 */
#ifndef DEVICE_PACED_H
#define DEVICE_PACED_H

#include "device/device.h"

#define SH_PACED_RUN_NS_MAX (INT64_C(1000) * 1000 * 1000 * 1000)
#define SH_PACED_ROW_NS_MAX (INT64_C(1000) * 1000 * 1000)

/* A run over T rows takes run_ns + row_ns * T. */
struct sh_paced_options {
    int64_t run_ns; /* 0 .. SH_PACED_RUN_NS_MAX */
    int64_t row_ns; /* 0 .. SH_PACED_ROW_NS_MAX */
};

/* ERR_ARG for times out of range. */
SHOAL_NODISCARD enum shoal_status sh_paced_device_open(struct sh_device **out,
                                                       struct sh_device *inner,
                                                       const struct sh_paced_options *opt,
                                                       struct shoal_error *err);

#endif
