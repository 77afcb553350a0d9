// What can be compared of runs that differ in tokens, texts, lengths and batches.
#include "launcher/reports/comparison_notes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ComparedRun MadeRun(const std::string& path, const std::vector<std::string>& overrides = {}) {
  ComparedRun run{.path = path, .config = ParseConfig("", "empty", overrides)};
  run.series["valid_loss"] = {{10, 3.}};
  run.texts = {.train = {{.name = "book.txt", .contents = "1"}}, .tokenizer = "bytes"};
  return run;
}

RunGroup GroupOf(const std::vector<const ComparedRun*>& runs) {
  return {.name = runs[0]->path, .runs = runs};
}

Comparability Compared(const ComparedRun& run, const ComparedRun& first) {
  return ComparabilityOf(GroupOf({&run}), GroupOf({&first}));
}

TEST(ComparisonNotes, NothingToSayOfAlikeRuns) {
  const ComparedRun a = MadeRun("a"), b = MadeRun("b", {"model.layers=2", "train.lr=0.1", "model.vocab=300"});
  const Comparability result = Compared(b, a);
  EXPECT_TRUE(result.loss && result.valid_loss && result.same_tokens);
  EXPECT_THAT(result.notes, IsEmpty()) << "the same tokenizer has the same tokens, whatever model.vocab is";
}

TEST(ComparisonNotes, OtherTokensAreAnotherMeasure) {
  const ComparedRun a = MadeRun("a");
  ComparedRun b = MadeRun("b");
  b.texts.tokenizer = "gpt2, 50257 tokens, 91f5";
  Comparability result = Compared(b, a);
  EXPECT_FALSE(result.loss || result.valid_loss);
  EXPECT_THAT(result.notes, ElementsAre(HasSubstr("its tokens are others (gpt2, 50257 tokens, 91f5; in a: "
                                                  "bytes), so nats a token are another measure")));
  EXPECT_FALSE(result.same_tokens);
  EXPECT_THAT(result.notes[0], HasSubstr("and not both have measured them"));
  ComparedRun measured = a;
  measured.series["valid_loss_per_byte"] = b.series["valid_loss_per_byte"] = {{10, 1.}};
  EXPECT_THAT(Compared(b, measured).notes[0], HasSubstr("nats a byte can be compared if both"));
  // Where a tokenizer is not known the vocabulary decides.
  b.texts.tokenizer = "";
  EXPECT_TRUE(Compared(b, a).loss);
  b.config.mutable_model()->set_vocab(50257);
  result = Compared(b, a);
  EXPECT_FALSE(result.loss || result.valid_loss);
  EXPECT_THAT(result.notes[0], HasSubstr("unknown ones, model.vocab 50257; in a: bytes"));
}

TEST(ComparisonNotes, OtherTexts) {
  const ComparedRun a = MadeRun("a");
  ComparedRun b = MadeRun("b");
  b.texts.train[0] = {.name = "other.txt", .contents = "2"};
  Comparability result = Compared(b, a);
  EXPECT_FALSE(result.loss || result.valid_loss);
  EXPECT_THAT(result.notes, ElementsAre(HasSubstr("trained on other texts (other.txt, in a book.txt)"),
                                        HasSubstr("`unipool eval b data.valid=TEXT`"),
                                        HasSubstr("other samples (other texts)")));
  b.texts.train[0].name = "book.txt";
  EXPECT_THAT(Compared(b, a).notes[0], HasSubstr("book.txt with other weights or contents"));
  b.series.erase("valid_loss");
  EXPECT_EQ(Compared(b, a).notes.size(), 2u) << "what was not validated needs no word";
}

TEST(ComparisonNotes, OtherValidationTextsAlone) {
  ComparedRun a = MadeRun("a"), b = MadeRun("b");
  b.texts.valid = {{.name = "v.txt"}};
  Comparability result = Compared(b, a);
  EXPECT_TRUE(result.loss) << "the same text, of which one run trains on a part";
  EXPECT_FALSE(result.valid_loss);
  EXPECT_THAT(result.notes[0], HasSubstr("(v.txt, in a cut from data.train)"));
  a.texts.valid = b.texts.valid;
  EXPECT_THAT(Compared(b, a).notes, IsEmpty());
  a.texts.valid.clear();
  b.texts.valid.clear();
  b.config.mutable_data()->set_split("50,50,0");
  EXPECT_THAT(Compared(b, a).notes[0], HasSubstr("(another data.split)"));
}

TEST(ComparisonNotes, OtherAmountsOfTheSameText) {
  const ComparedRun a = MadeRun("a", {"train.eval_batches=4"}), all = MadeRun("b"),
                    more = MadeRun("c", {"train.eval_batches=5"});
  EXPECT_TRUE(Compared(more, a).valid_loss);
  EXPECT_THAT(Compared(more, a).notes, ElementsAre("a validation takes 40 sequences of the text, in a 32"));
  EXPECT_THAT(Compared(all, a).notes, ElementsAre("a validation takes all sequences of the text, in a 32"));
}

TEST(ComparisonNotes, EqualSeedsWithoutEqualSamples) {
  const ComparedRun a = MadeRun("a");
  EXPECT_THAT(Compared(MadeRun("b", {"train.global_batch=16"}), a).notes,
              ElementsAre(HasSubstr("equal steps are not equal tokens (4096 a step, in a 2048)"),
                          HasSubstr("other samples (other train.global_batch)")));
  EXPECT_THAT(Compared(MadeRun("b", {"model.seq_length=128", "train.global_batch=16"}), a).notes,
              ElementsAre(HasSubstr("a sample has 128 tokens, in a 256"),
                          HasSubstr("other samples (other model.seq_length, train.global_batch)")));
  EXPECT_THAT(Compared(MadeRun("b", {"data.order=SEQUENTIAL"}), a).notes,
              ElementsAre(HasSubstr("other samples (other data.order)")));
}

TEST(ComparisonNotes, WhatAGroupSaysOfItself) {
  ComparedRun a = MadeRun("a"), b = MadeRun("b", {"train.seed=2"});
  EXPECT_THAT(NotesOf(GroupOf({&a, &b})), IsEmpty());
  b.earlier = {.step = 12, .words = "had other settings up to step 12: train.lr 1 (now 2)"};
  EXPECT_THAT(NotesOf(GroupOf({&a, &b})),
              ElementsAre("b had other settings up to step 12: train.lr 1 (now 2)"));
  EXPECT_THAT(NotesOf(GroupOf({&b})), ElementsAre("had other settings up to step 12: train.lr 1 (now 2)"));
  b.earlier = {};
  b.texts.train[0].contents = "2";
  EXPECT_THAT(NotesOf(GroupOf({&a, &b})), ElementsAre(HasSubstr("not the same contents: book.txt")));
}

TEST(ComparisonNotes, SeedsThatHaveNoPartner) {
  const ComparedRun a1 = MadeRun("a1", {"train.seed=1"}), a2 = MadeRun("a2", {"train.seed=2"}),
                    b1 = MadeRun("b1", {"train.seed=1"}), b2 = MadeRun("b2", {"train.seed=2"}),
                    b5 = MadeRun("b5", {"train.seed=5"});
  EXPECT_THAT(PairNotes(GroupOf({&b1, &b2}), GroupOf({&a1, &a2})), IsEmpty());
  EXPECT_THAT(PairNotes(GroupOf({&b1, &b5}), GroupOf({&a1, &a2})),
              ElementsAre("seeds without a partner: 5, 2", HasSubstr("one common seed tells no error")));
  EXPECT_THAT(PairNotes(GroupOf({&b5}), GroupOf({&a1, &a2})),
              ElementsAre("no seed is in both groups, so nothing is paired"));
}

}  // namespace
}  // namespace unipool
