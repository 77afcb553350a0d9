#include "launcher/traffic_report/recorded_run.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "launcher/traffic_report/report_text.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ProblemOf(const std::string& path) {
  try {
    ReadRecordedRun(path, {});
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

class RecordedRunTest : public ::testing::Test {
 protected:
  RecordedRunTest() : run_(4, "folder") {
    AddPlanted(run_, {});
    run_.Write();
  }
  void Replace(const std::string& name, const std::string& what, const std::string& by) {
    std::string text = ReadTextFile(run_.File(name));
    const size_t at = text.find(what);
    ASSERT_NE(at, text.npos);
    WriteTextFile(run_.File(name), text.replace(at, what.size(), by));
  }
  ExampleRun run_;
};

TEST_F(RecordedRunTest, ReadsWhatRanksRecorded) {
  const RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_EQ(folder.manifest.world, 4);
  EXPECT_EQ(folder.manifest.carrier, "MPI");
  ASSERT_EQ(folder.files.size(), 4u);
  EXPECT_EQ(folder.files[3].header.rank, 3);
  EXPECT_EQ(folder.files[3].exchanges.size(), 24u);
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(0, 1, 2));
  EXPECT_THAT(folder.notes, IsEmpty());
}

TEST_F(RecordedRunTest, LeavesOutOtherSteps) {
  const RecordedRun folder = ReadRecordedRun(run_.path(), {.first = 1, .last = 1});
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(1));
  EXPECT_EQ(folder.files[0].exchanges.size(), 8u);
}

TEST_F(RecordedRunTest, KeepsTheLastStepsWhereAllAreTooLarge) {
  const auto bytes = static_cast<int64_t>(4 * std::filesystem::file_size(run_.File("rank-00000.bin")));
  const RecordedRun folder = ReadRecordedRun(run_.path(), {}, bytes / 2);
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(2));
  EXPECT_THAT(folder.notes, ElementsAre(HasSubstr("only steps from 2 on")));
}

// A rank was killed in its last step: that step is no step of the run, the others are.
TEST_F(RecordedRunTest, CutsATornFile) {
  const std::string path = run_.File("rank-00002.bin");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 5);
  const RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(0, 1));
  EXPECT_EQ(folder.files[2].exchanges.size(), 16u);
  EXPECT_THAT(folder.notes, ElementsAre(AllOf(HasSubstr("rank-00002.bin"), HasSubstr("torn"))));
}

// Of the same format.
TEST_F(RecordedRunTest, TellsOfAnotherProgramVersion) {
  run_.version_ = "abc";
  run_.Write();
  EXPECT_THAT(ReadRecordedRun(run_.path(), {}).notes,
              ElementsAre(AllOf(HasSubstr("recorded by program version abc"),
                                HasSubstr("read by program version " + ProgramVersion()))));
}

TEST_F(RecordedRunTest, TellsWhyRecordsEndEarly) {
  std::string blanks(240, ' ');
  Replace("rank-00002.bin", "\"problem\":\"" + blanks,
          "\"problem\":\"" + FilledText("cannot be written (disk \"a\" is full)", 240));
  EXPECT_THAT(ReadRecordedRun(run_.path(), {}).notes,
              ElementsAre(AllOf(HasSubstr("rank-00002.bin: "), HasSubstr("(disk 'a' is full)"))));
}

TEST_F(RecordedRunTest, RefusesAnotherFormatWithBothVersions) {
  run_.version_ = "abc";
  run_.Write();
  Replace("rank-00001.bin", "\"unipool_traffic\":2", "\"unipool_traffic\":9");
  EXPECT_THAT(ProblemOf(run_.path()),
              AllOf(HasSubstr("format 9"), HasSubstr("format 2"), HasSubstr("version abc")));
  run_.Write();
  Replace("manifest.json", "\"unipool_traffic\":2", "\"unipool_traffic\":9");
  EXPECT_THAT(ProblemOf(run_.path()),
              AllOf(HasSubstr("format 9"), HasSubstr("format 2"), HasSubstr("version abc")));
}

TEST_F(RecordedRunTest, LeavesOutAnotherStart) {
  Replace("rank-00001.bin", "\"run_id\":\"run\"", "\"run_id\":\"old\"");
  const RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_EQ(folder.files.size(), 3u);
  EXPECT_THAT(folder.RecordedSteps(), IsEmpty());
  EXPECT_THAT(folder.notes, ElementsAre(HasSubstr("another start"), HasSubstr("1 of 4 ranks")));
}

TEST_F(RecordedRunTest, LeavesOutAFileOfAnotherRank) {
  std::filesystem::copy_file(run_.File("rank-00001.bin"), run_.File("rank-00002.bin"),
                             std::filesystem::copy_options::overwrite_existing);
  const RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_EQ(folder.files.size(), 3u);
  EXPECT_THAT(folder.notes, ElementsAre(HasSubstr("holds records of rank 1"), HasSubstr("1 of 4 ranks")));
}

TEST_F(RecordedRunTest, LeavesOutWhatIsDamaged) {
  WriteTextFile(run_.File("rank-00003.bin"), "");
  WriteTextFile(run_.File("rank-00002.bin"), "{\"unipool_tr");
  RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_EQ(folder.files.size(), 2u);
  EXPECT_THAT(folder.notes, ElementsAre(HasSubstr("rank-00002.bin"), HasSubstr("rank-00003.bin"),
                                        HasSubstr("2 of 4 ranks")));
  run_.Write();
  WriteTextFile(run_.File("manifest.json"), "{\"world\":");
  folder = ReadRecordedRun(run_.path(), {});
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(0, 1, 2));
  EXPECT_THAT(folder.notes, ElementsAre(HasSubstr("manifest.json")));
}

TEST_F(RecordedRunTest, TellsOfEarlierStarts) {
  std::filesystem::create_directories(run_.File("before-1"));
  EXPECT_THAT(ReadRecordedRun(run_.path(), {}).notes, ElementsAre(HasSubstr("before-N")));
}

TEST_F(RecordedRunTest, DoesWithoutAManifest) {
  std::filesystem::remove(run_.File("manifest.json"));
  const RecordedRun folder = ReadRecordedRun(run_.path(), {});
  EXPECT_EQ(folder.manifest.world, 4);
  EXPECT_EQ(folder.manifest.boot_id_of_rank[2], "b0");
  EXPECT_THAT(folder.RecordedSteps(), ElementsAre(0, 1, 2));
  EXPECT_THAT(ReportText(MakeTrafficReport(run_.path(), {})), HasSubstr("records of every exchange"));
}

TEST_F(RecordedRunTest, TellsWhichStepsThereAre) {
  try {
    MakeTrafficReport(run_.path(), {.steps = {.first = 90, .last = 99}});
    ADD_FAILURE() << "no such steps";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("one by one steps 0 to 2 are recorded"));
  }
}

TEST_F(RecordedRunTest, NamesTheSettingWhereNothingIsRecorded) {
  std::filesystem::remove_all(run_.path() + "/traffic");
  EXPECT_THAT(ProblemOf(run_.path()),
              AllOf(HasSubstr("traffic.record=SUMMARY"), HasSubstr("traffic.record=FULL")));
  std::filesystem::create_directories(run_.path() + "/traffic");
  EXPECT_THAT(ProblemOf(run_.path()), HasSubstr("traffic.record=FULL"));
  EXPECT_THAT(ProblemOf("nowhere"), HasSubstr("nowhere: no such folder"));
}

}  // namespace
}  // namespace unipool
