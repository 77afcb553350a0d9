#include "launcher/reports/comparison_notes.h"

#include <set>

#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr char kPerByte[] = "valid_loss_per_byte";

const ComparedRun& Example(const RunGroup& group) {
  return *group.runs[0];
}

std::string TokensText(const ComparedRun& run) {
  if (!run.texts.tokenizer.empty()) return run.texts.tokenizer;
  return Format("unknown ones, model.vocab %d", run.config.model().vocab());
}

// Where a tokenizer is not known, another vocabulary is taken for another one.
bool HaveSameTokens(const ComparedRun& a, const ComparedRun& b) {
  if (!a.texts.tokenizer.empty() && !b.texts.tokenizer.empty()) return a.texts.tokenizer == b.texts.tokenizer;
  return a.config.model().vocab() == b.config.model().vocab();
}

// How sources that are not the same differ, for people.
std::string SourcesText(const std::vector<TextSource>& ours, const std::vector<TextSource>& theirs,
                        const std::string& first) {
  const auto names = [](const std::vector<TextSource>& sources) {
    return sources.empty() ? "cut from data.train" : NamesOf(sources);
  };
  if (names(ours) != names(theirs)) return names(ours) + ", in " + first + " " + names(theirs);
  if (AreSameSources(ours, theirs)) return "another data.split";
  return names(ours) + " with other weights or contents";
}

int64_t ValidationSequences(const Config& config) {
  return int64_t{config.train().eval_batches()} * config.train().global_batch();
}

std::string SequencesText(int64_t sequences) {
  return sequences == 0 ? "all" : Format("%d", sequences);
}

int64_t StepTokens(const Config& config) {
  return int64_t{config.train().global_batch()} * config.model().seq_length();
}

// The settings for which equal seeds would see equal samples.
std::vector<std::string> WhySamplesDiffer(const ComparedRun& a, const ComparedRun& b) {
  std::vector<std::string> reasons;
  if (!HaveSameTraining(a.config, a.texts, b.config, b.texts)) reasons.emplace_back("texts");
  if (a.config.data().order() != b.config.data().order()) reasons.emplace_back("data.order");
  if (a.config.model().seq_length() != b.config.model().seq_length())
    reasons.emplace_back("model.seq_length");
  if (a.config.train().global_batch() != b.config.train().global_batch())
    reasons.emplace_back("train.global_batch");
  return reasons;
}

void CompareTexts(const ComparedRun& ours, const ComparedRun& theirs, const std::string& first,
                  Comparability& result) {
  const bool same_training = AreSameSources(ours.texts.train, theirs.texts.train);
  const bool same_valid = HaveSameValidation(ours.config, ours.texts, theirs.config, theirs.texts);
  result.loss = result.loss && same_training;
  result.valid_loss = result.valid_loss && same_valid;
  const bool has_valid = ours.series.contains("valid_loss") && theirs.series.contains("valid_loss");
  if (!same_training) {
    result.notes.push_back(
        Format("it was trained on other texts (%s), so no difference of training losses is shown",
               SourcesText(ours.texts.train, theirs.texts.train, first).c_str()));
  }
  if (!same_valid && has_valid) {
    const bool own = !ours.texts.valid.empty() || !theirs.texts.valid.empty();
    const std::string how = own ? SourcesText(ours.texts.valid, theirs.texts.valid, first)
                                : SourcesText(ours.texts.train, theirs.texts.train, first);
    result.notes.push_back(
        Format("it was validated on other texts (%s), so no difference of validation losses is shown; "
               "`unipool eval %s data.valid=TEXT` measures any run on a text",
               how.c_str(), ours.path.c_str()));
  }
  const int64_t our_sequences = ValidationSequences(ours.config),
                their_sequences = ValidationSequences(theirs.config);
  if (same_valid && has_valid && our_sequences != their_sequences) {
    result.notes.push_back(Format("a validation takes %s sequences of the text, in %s %s",
                                  SequencesText(our_sequences).c_str(), first.c_str(),
                                  SequencesText(their_sequences).c_str()));
  }
}

}  // namespace

Comparability ComparabilityOf(const RunGroup& group, const RunGroup& first) {
  Comparability result;
  const ComparedRun &ours = Example(group), &theirs = Example(first);
  if (!HaveSameTokens(ours, theirs)) {
    result.loss = result.valid_loss = result.same_tokens = false;
    const bool per_byte = ours.series.contains(kPerByte) && theirs.series.contains(kPerByte);
    result.notes.push_back(
        Format("its tokens are others (%s; in %s: %s), so nats a token are another measure and no "
               "difference of them is shown; %s",
               TokensText(ours).c_str(), first.name.c_str(), TokensText(theirs).c_str(),
               per_byte ? "nats a byte can be compared if both are validated on the same text"
                        : "nats a byte would do, and not both have measured them; `unipool eval RUN` does"));
  } else {  // the contents of one text in other tokens are others anyway
    CompareTexts(ours, theirs, first.name, result);
  }
  const int32_t our_length = ours.config.model().seq_length(), length = theirs.config.model().seq_length();
  if (our_length != length) {
    result.notes.push_back(
        Format("a sample has %d tokens, in %s %d: a loss is lower where more tokens stand before each",
               our_length, first.name.c_str(), length));
  }
  if (StepTokens(ours.config) != StepTokens(theirs.config)) {
    result.notes.push_back(Format("equal steps are not equal tokens (%d a step, in %s %d)",
                                  StepTokens(ours.config), first.name.c_str(), StepTokens(theirs.config)));
  }
  const std::vector<std::string> reasons = WhySamplesDiffer(ours, theirs);
  if (!reasons.empty()) {
    result.notes.push_back("equal seeds see other samples (other " + JoinNames(reasons) +
                           "), so pairing takes none of their chance away");
  }
  return result;
}

std::vector<std::string> NotesOf(const RunGroup& group) {
  std::vector<std::string> notes;
  bool is_mixed = false;
  for (const ComparedRun* run : group.runs) {
    if (!run->earlier.words.empty())
      notes.push_back((group.runs.size() > 1 ? run->path + " " : "") + run->earlier.words);
    is_mixed = is_mixed || !AreSameSources(run->texts.train, Example(group).texts.train) ||
               !AreSameSources(run->texts.valid, Example(group).texts.valid);
  }
  if (is_mixed)
    notes.push_back("the texts of its runs have the same names and not the same contents: " +
                    NamesOf(Example(group).texts.train));
  return notes;
}

std::vector<std::string> PairNotes(const RunGroup& group, const RunGroup& first) {
  std::set<uint64_t> ours, theirs;
  for (const ComparedRun* run : group.runs) ours.insert(run->config.train().seed());
  for (const ComparedRun* run : first.runs) theirs.insert(run->config.train().seed());
  std::vector<std::string> alone;
  int common = 0;
  for (uint64_t seed : ours) {
    if (!theirs.contains(seed))
      alone.push_back(std::to_string(seed));
    else
      ++common;
  }
  for (uint64_t seed : theirs) {
    if (!ours.contains(seed)) alone.push_back(std::to_string(seed));
  }
  if (common == 0) return {"no seed is in both groups, so nothing is paired"};
  std::vector<std::string> notes;
  if (!alone.empty()) notes.push_back("seeds without a partner: " + JoinNames(alone));
  if (common == 1) notes.emplace_back("one common seed tells no error; train more seeds (train.seed=2)");
  return notes;
}

}  // namespace unipool
