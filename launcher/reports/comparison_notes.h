// What of two groups of runs can be compared, and what weakens it.
#pragma once

#include <string>
#include <vector>

#include "launcher/reports/run_comparison.h"

namespace unipool {

// Which differences mean something. A loss is in nats a token: those of other tokens, or of other texts, are
// other measures.
struct Comparability {
  bool loss = true, valid_loss = true;
  bool same_tokens = true;
  std::vector<std::string> notes;  // clauses that say why not, and what else to keep in mind
};
// Of the first runs of both, whose settings all runs of a group share.
Comparability ComparabilityOf(const RunGroup& group, const RunGroup& first);

// What weakens a group by itself: runs that had other settings before, sources that became others.
std::vector<std::string> NotesOf(const RunGroup& group);

// Which seeds have no partner, and what then is missing: pairs, or their error.
std::vector<std::string> PairNotes(const RunGroup& group, const RunGroup& first);

}  // namespace unipool
