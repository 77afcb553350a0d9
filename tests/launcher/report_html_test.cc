#include "launcher/traffic_report/report_html.h"

#include <gmock/gmock.h>

#include "launcher/traffic_report/html_plots.h"
#include "launcher/traffic_report/report_comparison.h"
#include "launcher/traffic_report/report_text.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kScreens[] = {"verdict", "ranks", "matrix", "blame",   "layers", "step",
                                    "experts", "sizes", "whatif", "quality", "run"};

std::string ScreenOf(const std::string& page, const std::string& id) {
  const size_t begin = page.find("<section id=\"" + id + "\">");
  return begin == page.npos ? "" : page.substr(begin, page.find("</section>", begin) - begin);
}

TEST(ReportHtml, ShowsEveryScreenAndNeedsNoNetwork) {
  ExampleRun run(4, "html");
  AddPlanted(run, {});
  run.Write();
  const std::string page = ReportHtml(MakeTrafficReport(run.path(), {}), nullptr);
  for (const std::string id : kScreens) {
    const std::string screen = ScreenOf(page, id);
    EXPECT_GT(screen.size(), 60u) << id;
    if (id != "run" && id != "matrix" && id != "blame" && id != "quality") {
      EXPECT_THAT(screen, HasSubstr("<svg")) << id;
    }
    if (id != "run") {
      EXPECT_THAT(screen, HasSubstr("<table")) << id;
    }
  }
  EXPECT_THAT(ScreenOf(page, "whatif"), HasSubstr("PREDICTED"));
  for (const char* outside : {"http:", "https:", "src=", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  for (const char* number : {"nan", "inf\""}) EXPECT_THAT(page, Not(HasSubstr(number)));
  EXPECT_LT(page.size(), 5'000'000u);
}

// Few and many ranks, several stages, a lane in which nothing happens: every screen says something, no number
// is none, and the page stays small.
struct PageCase {
  const char* name;
  int world, stages;
  bool backward_is_idle;
};

class ReportHtmlSizes : public ::testing::TestWithParam<PageCase> {};

TEST_P(ReportHtmlSizes, EveryScreenIsThere) {
  const PageCase& one = GetParam();
  ExampleRun run(one.world, std::string("html_") + one.name);
  run.stages_ = one.stages;
  for (int rank = 0; rank < one.world; ++rank) run.nodes_[rank] = rank / 8;
  const std::vector<double> each(one.world, 1), us(one.world, 100);
  AddPlanted(run, {.world = one.world,
                   .layers = one.world > 64 ? 2 : 4,
                   .steps = 2,
                   .compute_us = us,
                   .rows = each,
                   .backward_is_idle = one.backward_is_idle});
  run.expert_rows_ = nlohmann::json::parse(
      R"({"owner": [0, 0], "layers": [{"layer": 1, "choosable": 2, "rows": 40, "most": [[1, 40]]}]})");
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  ASSERT_TRUE(report.HasRecords());
  const std::string page = ReportHtml(report, nullptr);
  for (const std::string id : kScreens) EXPECT_GT(ScreenOf(page, id).size(), 60u) << id;
  for (const char* id : {"ranks", "layers", "step", "experts", "sizes", "whatif"})
    EXPECT_THAT(ScreenOf(page, id), HasSubstr("<svg")) << id;
  for (const char* number : {"nan", "inf\""}) EXPECT_THAT(page, Not(HasSubstr(number)));
  EXPECT_LT(page.size(), 5'000'000u);
  const std::string matrix = ScreenOf(page, "matrix");
  EXPECT_EQ(matrix.find("step 1") != matrix.npos, one.world <= 64) << "steps have matrices of their own";
  EXPECT_THAT(ScreenOf(page, "experts"), HasSubstr("Rows by expert and layer"));
  std::istringstream text(ReportText(report));
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with(run.path())) {
      EXPECT_LE(line.size(), 80u) << line;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ReportHtmlSizes,
                         ::testing::Values(PageCase{"two", 2, 1, false}, PageCase{"idle_lane", 4, 1, true},
                                           PageCase{"stages", 8, 4, false}, PageCase{"many", 256, 1, false},
                                           PageCase{"many_stages", 256, 4, false}),
                         [](const auto& test) { return test.param.name; });

TEST(ReportHtml, MatricesOfStepsAndTimes) {
  ExampleRun run(2, "html_times");
  ExampleExchange exchange;
  // Rank 1 starts last, at 300, and rank 0 waits until 1300: 1000 ns for 8000 bytes.
  exchange.calls = {{100, 110, 1300}, {300, 310, 320}};
  exchange.bytes = {{0, 4000}, {8000, 0}};
  run.AddStep(3, 0, 2000, {exchange});
  exchange.bytes = {{0, 5000}, {1000, 0}};
  for (ExampleCall& call : exchange.calls)
    call = {call.start + 2000, call.wait_enter + 2000, call.wait_leave + 2000};
  run.AddStep(4, 2000, 4000, {exchange});
  run.Write();
  const std::string matrix = ScreenOf(ReportHtml(MakeTrafficReport(run.path(), {}), nullptr), "matrix");
  EXPECT_THAT(matrix, HasSubstr("step 3"));
  EXPECT_THAT(matrix, HasSubstr("GB/s, at least"));
  EXPECT_THAT(matrix, HasSubstr(">4.500<")) << "9000 bytes in 2000 ns";
  EXPECT_THAT(matrix, HasSubstr("ms under way"));
}

TEST(ReportHtml, OneRankHasAPageToo) {
  ExampleRun run(1, "html_one");
  Planted plan{.world = 1};
  AddPlanted(run, plan);
  run.Write();
  const std::string page = ReportHtml(MakeTrafficReport(run.path(), {}), nullptr);
  EXPECT_THAT(ScreenOf(page, "verdict"), HasSubstr("One rank"));
  for (const std::string id : kScreens) EXPECT_GT(ScreenOf(page, id).size(), 60u) << id;
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

// Names come from files of others.
TEST(ReportHtml, EscapesNames) {
  ExampleRun run(2, "html_names");
  ExampleExchange exchange{.operation = "<script>alert(1)</script>"};
  exchange.calls = {{1, 2, 9}, {1, 2, 9}};
  exchange.bytes = {{0, 80}, {80, 0}};
  run.AddStep(0, 0, 10, {exchange});
  run.Write();
  EXPECT_THAT(ReportHtml(MakeTrafficReport(run.path(), {}), nullptr), Not(HasSubstr("<script>alert")));
}

TEST(ReportText, FitsEightyColumnsWhateverTheNumbers) {
  ExampleRun run(4, "text");
  Planted plan;
  plan.compute_us[1] = 150;
  AddPlanted(run, plan);
  run.Write();
  for (const double scale : {1.0, 30.0, 77.0, 1e3, 3e4, 1e6}) {
    TrafficReport report = MakeTrafficReport(run.path(), {});
    TrafficFigures& figures = report.figures;
    for (StepFigures& step : figures.steps)
      step = {.step = step.step * scale, .waits = step.waits.Times(scale)};
    for (RankFigures& rank : figures.ranks) {
      rank.step *= scale;
      rank.waits = rank.waits.Times(scale);
      rank.volume = rank.volume.Times(scale);
      rank.caused *= scale;
    }
    for (auto& [key, cell] : figures.cells)
      cell = {.waits = cell.waits.Times(scale), .volume = cell.volume.Times(scale)};
    for (auto& [operation, matrix] : figures.matrices) {
      for (auto& row : matrix)
        for (double& bytes : row) bytes *= scale;
    }
    report.what_if.measured *= scale;
    for (int words = 0; words < 60; ++words) report.verdict.reason += " " + std::string(1 + words % 7, 'w');
    for (WaitCause& cause : report.verdict.causes) {
      cause.ns *= scale;
      cause.what += report.verdict.reason;
      cause.change += report.verdict.reason;
    }
    report.notes.push_back(report.verdict.reason);
    std::istringstream text(ReportText(report));
    int lines = 0;
    for (std::string line; std::getline(text, line); ++lines) {
      if (!line.starts_with(run.path())) {
        EXPECT_LE(line.size(), 80u) << scale << ": " << line;
      }
    }
    EXPECT_GT(lines, 30);
  }
}

TEST(ReportText, TellsOfRanksThatShareCores) {
  const auto text = [](std::vector<int> cores) {
    ExampleRun run(4, "cores");
    AddPlanted(run, {});
    run.host_cores_ = std::move(cores);
    run.Write();
    return ReportText(MakeTrafficReport(run.path(), {}));
  };
  EXPECT_THAT(text({2, 2, 2, 2}), HasSubstr("4 ranks share 2 cores of host host-b0"));
  for (const std::vector<int>& cores : {std::vector<int>{4, 4, 4, 4}, {0, 0, 0, 0}, {}})
    EXPECT_THAT(text(cores), Not(HasSubstr("share")));
}

TEST(ReportText, WrapsAtBlanks) {
  EXPECT_EQ(Wrapped("aaa bbb ccc", 9, 2), "aaa bbb\n  ccc");
  EXPECT_EQ(Wrapped("  a_word_that_is_too_long b", 9, 2), "  a_word_that_is_too_long\n  b");
}

TEST(ReportComparison, TellsNoiseFromADifference) {
  ExampleRun slow(4, "slow"), fast(4, "fast");
  Planted plan{.steps = 8};
  AddPlanted(fast, plan);
  plan.seed = 2;
  plan.compute_us[1] = 200;
  AddPlanted(slow, plan);
  fast.Write();
  slow.Write();
  const TrafficReport a = MakeTrafficReport(slow.path(), {}), b = MakeTrafficReport(fast.path(), {});
  const TrafficComparison comparison = CompareTraffic(a, b);
  const auto number = [&](const std::string& name) {
    for (const ComparedNumber& one : comparison.numbers) {
      if (one.name == name) return one;
    }
    ADD_FAILURE() << name;
    return ComparedNumber{};
  };
  EXPECT_NEAR(number("step").own - number("step").other, 8 * 0.1, 0.2);
  EXPECT_FALSE(number("step").IsNoise());
  EXPECT_FALSE(number("idle (late senders)").IsNoise());
  for (const ComparedNumber& one : CompareTraffic(a, a).numbers) EXPECT_EQ(one.own, one.other) << one.name;
  EXPECT_TRUE(CompareTraffic(a, a).numbers[0].IsNoise());
  EXPECT_THAT(TrafficComparisonText(comparison), HasSubstr("dispatch forward"));
  EXPECT_THAT(comparison.differences, ::testing::IsEmpty());
}

TEST(ReportComparison, TellsUnlikeRuns) {
  ExampleRun two(2, "two"), four(4, "four");
  AddPlanted(two, {.world = 2});
  AddPlanted(four, {});
  two.carrier_ = "threads";
  two.Write();
  four.Write();
  const TrafficComparison comparison =
      CompareTraffic(MakeTrafficReport(two.path(), {}), MakeTrafficReport(four.path(), {}));
  EXPECT_THAT(TrafficComparisonText(comparison),
              ::testing::AllOf(HasSubstr("unlike runs in ranks: 2 in this, 4 in the other"),
                               HasSubstr("carrier: threads in this, MPI in the other")));
  EXPECT_THAT(ComparisonScreen(comparison).body, HasSubstr("unlike runs in ranks"));
}

TEST(HtmlPlots, DrawNothingOutsideAndNoNumberThatIsNone) {
  const std::string map = HeatMapSvg({.rows = {"a"}, .columns = {"x", "y"}, .values = {{1, kUnknown}}});
  EXPECT_THAT(map, HasSubstr("a, x: 1"));
  EXPECT_THAT(map, Not(HasSubstr("nan")));
  TimeLine line{.length = 10, .unit = "ms", .labels = {"r"}, .rows = {{{0, 5, 0}, {5, 10, 1}}}};
  line.classes = {{"idle", "idle"}, {"exposed", "exposed"}};
  const std::string svg = TimeLineSvg(line);
  EXPECT_THAT(svg, HasSubstr("<path class=\"idle\""));
  EXPECT_THAT(svg, HasSubstr("<path class=\"exposed\""));
}

}  // namespace
}  // namespace unipool
