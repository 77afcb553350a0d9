#include "launcher/cluster.h"

#include <algorithm>
#include <cmath>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

static_assert(static_cast<int>(WorkKind::kDenseForward) == Work::DENSE_FORWARD &&
              static_cast<int>(WorkKind::kOptimizer) == Work::OPTIMIZER &&
              kNumWorkKinds == Work::Kind_ARRAYSIZE);

// Beyond these no report can be read.
constexpr double kMost = 1e9, kLeastScale = 1e-9, kMostScale = 1e9;
// Of a file that is not measured: its band is then a fifth of the step either way.
constexpr double kAssumedNoise = 0.12;
constexpr char kWhyAssumedNoise[] =
    "nothing says how far rates that were not measured are off: a fifth of the step either way is taken, "
    "nine "
    "times of ten";

WireDescription WireOf(const WireConfig& wire, double share_of_adapter) {
  WireDescription description{.latency_seconds = 1e-6 * wire.latency_us(),
                              .bytes_per_second = 1e9 * wire.gigabytes_per_second() * share_of_adapter,
                              .shares = {}};
  for (const ContentionConfig& entry : wire.contention()) {
    description.shares.push_back(
        {.peers = entry.peers(), .bytes = 1e3 * entry.kilobytes(), .share = entry.share()});
  }
  return description;
}

// What is wrong with a file, field by field.
class ClusterCheck {
 public:
  ClusterCheck(const std::string& path, const ClusterConfig& config) : path_(path), config_(config) {}

  void Run() {
    Check("ranks_per_node", config_.ranks_per_node(), config_.ranks_per_node() >= 0,
          "be at least 1, or 0 for one node");
    Check("compute_scale", config_.compute_scale(),
          config_.compute_scale() >= kLeastScale && config_.compute_scale() <= kMostScale,
          "lie between 1e-9 and 1e9");
    Wire("intra_node", config_.intra_node());
    Wire("inter_node", config_.inter_node());
    InRange("nodes", config_.nodes(), kMost);
    Check("adapters_per_node", config_.adapters_per_node(),
          config_.adapters_per_node() >= 0 &&
              (config_.ranks_per_node() <= 0 || config_.adapters_per_node() <= config_.ranks_per_node()),
          "lie between 0 and ranks_per_node");
    Check("overlap", config_.overlap(), config_.overlap() >= 0 && config_.overlap() <= 1,
          "lie between 0 and 1");
    Check("noise", config_.noise(), config_.noise() >= 0 && config_.noise() < 1, "lie between 0 and 1");
    Processor();
    InRange("memory.gigabytes", config_.memory().gigabytes(), kMost);
    InRange("memory.slack", config_.memory().slack(), kMost);
    InRange("memory.fixed_gigabytes", config_.memory().fixed_gigabytes(), kMost);
    InRange("cores_per_node", config_.cores_per_node(), kMost);
    Unread();
    problems_.ThrowIfAny();
  }

 private:
  void Add(const std::string& text) { problems_.Add(path_ + ": " + text); }
  void Check(const std::string& field, double value, bool is_right, const char* right) {
    if (is_right && std::isfinite(value)) return;
    Add(Format("%s: is %g; must %s", field.c_str(), value, right));
  }
  void InRange(const std::string& field, double value, double most) {
    Check(field, value, value >= 0 && value <= most, "lie between 0 and 1e9");
  }

  void Wire(const std::string& name, const WireConfig& wire) {
    InRange(name + ".latency_us", wire.latency_us(), kMost);
    InRange(name + ".gigabytes_per_second", wire.gigabytes_per_second(), kMost);
    for (int i = 0; i < wire.contention_size(); ++i) {
      const ContentionConfig& entry = wire.contention(i);
      const std::string field = Format("%s.contention[%d]", name.c_str(), i);
      Check(field + ".peers", entry.peers(), entry.peers() >= 1, "be at least 1");
      InRange(field + ".kilobytes", entry.kilobytes(), kMost);
      Check(field + ".share", entry.share(), entry.share() > 0 && entry.share() <= 1,
            "be more than 0 and at most 1");
    }
    if (wire.contention_size() > 0 && wire.gigabytes_per_second() == 0) {
      Add(name + ".contention: is given, but the wire is infinitely fast and nothing reads it; give " + name +
          ".gigabytes_per_second too, or leave it out");
    }
  }

  void Processor() {
    const ProcessorConfig& processor = config_.processor();
    std::vector<bool> seen(kNumWorkKinds);
    for (int i = 0; i < processor.work_size(); ++i) {
      const WorkConfig& work = processor.work(i);
      const std::string field = Format("processor.work[%d]", i), kind = Work::Kind_Name(work.kind());
      if (seen[work.kind()]) Add(field + ": is a second " + kind + "; give each kind of work once");
      seen[work.kind()] = true;
      InRange(field + ".fixed_us", work.fixed_us(), kMost);
      for (int r = 0; r < work.rate_size(); ++r) {
        const std::string rate = Format("%s.rate[%d]", field.c_str(), r);
        const double speed = work.rate(r).giga_per_second();
        Check(rate + ".giga_per_second", speed, speed > 0 && speed <= kMost,
              "be more than 0 and at most 1e9");
        InRange(rate + ".expert_us", work.rate(r).expert_us(), kMost);
        const bool is_of_experts = work.kind() == Work::EXPERTS_FORWARD ||
                                   work.kind() == Work::EXPERTS_INPUT || work.kind() == Work::EXPERTS_WEIGHTS;
        if (work.rate(r).expert_us() > 0 && !is_of_experts)
          Add(rate + ".expert_us: is given, but " + kind + " is no work of experts and nothing reads it");
        const double least = r == 0 ? 0 : work.rate(r - 1).amount();
        Check(rate + ".amount", work.rate(r).amount(),
              r == 0 ? work.rate(r).amount() >= 0 : work.rate(r).amount() > least,
              r == 0 ? "be at least 0" : "be more than that of the rate before it");
      }
    }
    if (processor.hidden() < 0) Check("processor.hidden", processor.hidden(), false, "be at least 0");
    if (processor.width() < 0) Check("processor.width", processor.width(), false, "be at least 0");
    InRange("processor.ranks_at_once", processor.ranks_at_once(), kMost);
    if (processor.ranks_at_once() > 0 && config_.cores_per_node() == 0) {
      Add("processor.ranks_at_once: is given, but without cores_per_node nothing reads it; give both, or "
          "leave it out");
    }
    if (processor.emulate() && processor.work_size() == 0) {
      Add("processor.emulate: is set, but no processor.work says how long work takes; run `unipool "
          "calibrate`, or leave it out");
    }
    if (processor.emulate() && config_.has_compute_scale()) {
      Add("compute_scale: is given, but with processor.emulate nothing reads it; leave one of the two out");
    }
  }

  // Fields that nothing reads beside the others of the file.
  void Unread() {
    if (config_.ranks_per_node() != 0) return;
    if (config_.has_inter_node()) {
      Add("inter_node: is given, but all ranks are on one node (ranks_per_node is 0) and nothing reads it; "
          "give ranks_per_node, or leave it out");
    }
    if (config_.adapters_per_node() != 0) {
      Add("adapters_per_node: is given, but all ranks are on one node (ranks_per_node is 0) and nothing "
          "reads it; give ranks_per_node, or leave it out");
    }
  }

  const std::string& path_;
  const ClusterConfig& config_;
  Problems problems_;
};

// All numbers that are set, with their paths.
void ListNumbers(const google::protobuf::Message& message, const std::string& prefix,
                 std::vector<ClusterNumber>& numbers) {
  using Field = google::protobuf::FieldDescriptor;
  const auto* reflection = message.GetReflection();
  std::vector<const Field*> fields;
  reflection->ListFields(message, &fields);
  for (const Field* field : fields) {
    if (field->message_type() == OriginConfig::descriptor()) continue;
    const std::string path = prefix + field->name();
    if (field->is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        ListNumbers(reflection->GetRepeatedMessage(message, field, i), Format("%s[%d].", path.c_str(), i),
                    numbers);
      }
    } else if (field->cpp_type() == Field::CPPTYPE_MESSAGE) {
      ListNumbers(reflection->GetMessage(message, field), path + ".", numbers);
    } else if (field->cpp_type() == Field::CPPTYPE_DOUBLE) {
      numbers.push_back({.field = path, .value = reflection->GetDouble(message, field)});
    } else if (field->cpp_type() == Field::CPPTYPE_INT32) {
      numbers.push_back({.field = path, .value = double{1} * reflection->GetInt32(message, field)});
    }
  }
}

// Is `field` the number `path`, or a message (or list) that it is in?
bool Covers(const std::string& field, const std::string& path) {
  if (path.compare(0, field.size(), field) != 0) return false;
  return path.size() == field.size() || path[field.size()] == '.' || path[field.size()] == '[';
}

// The closest origin of each number holds.
void SetOrigins(const std::string& path, const ClusterConfig& config, std::vector<ClusterNumber>& numbers) {
  Problems problems;
  std::vector<size_t> closest(numbers.size(), 0);
  for (const OriginConfig& origin : config.origin()) {
    bool is_read = false;
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (origin.field().empty() || !Covers(origin.field(), numbers[i].field)) continue;
      is_read = true;
      if (origin.field().size() < closest[i]) continue;
      closest[i] = origin.field().size();
      numbers[i].tag = origin.tag();
      numbers[i].source = origin.source();
      numbers[i].date = origin.date();
      numbers[i].spread = origin.spread();
    }
    if (!is_read) {
      problems.Add(
          Format("%s: origin.field: '%s' names no number that the file gives; a right one is "
                 "'inter_node.latency_us' or 'processor'",
                 path.c_str(), origin.field().c_str()));
    }
    if (origin.spread() < 0 || !std::isfinite(origin.spread())) {
      problems.Add(Format("%s: origin.spread: of '%s' is %g; must be at least 0", path.c_str(),
                          origin.field().c_str(), origin.spread()));
    }
  }
  problems.ThrowIfAny();
}

WorkRates RatesOf(const ProcessorConfig& processor) {
  WorkRates rates;
  for (const WorkConfig& work : processor.work()) {
    WorkRate& rate = rates[work.kind()];
    rate.fixed_seconds = 1e-6 * work.fixed_us();
    for (const RateConfig& point : work.rate()) {
      rate.points.push_back({.amount = point.amount(),
                             .units_per_second = 1e9 * point.giga_per_second(),
                             .expert_seconds = 1e-6 * point.expert_us()});
    }
  }
  return rates;
}

// A file that was measured has the noise of its steps, and a described processor has none.
void AssumeNoise(Cluster& cluster) {
  ClusterConfig& config = cluster.config;
  if (config.has_noise() || config.processor().emulate() || cluster.TagOf("") == Tag::MEASURED) return;
  config.set_noise(kAssumedNoise);
  cluster.numbers.push_back(
      {.field = "noise", .value = kAssumedNoise, .tag = Tag::ASSUMED, .source = kWhyAssumedNoise});
}

// How sure one is of numbers with this tag.
int SurenessOf(Tag::Value tag) {
  return static_cast<int>(tag);
}

}  // namespace

Tag::Value Cluster::TagOf(const std::string& field) const {
  Tag::Value least = Tag::MEASURED;
  bool found = false;
  for (const ClusterNumber& number : numbers) {
    if (!field.empty() && !Covers(field, number.field)) continue;
    found = true;
    if (SurenessOf(number.tag) < SurenessOf(least)) least = number.tag;
  }
  return found ? least : Tag::ASSUMED;
}

Cluster LoadClusterFile(const std::string& path) {
  Cluster cluster{.path = path, .config = {}, .description = {}, .rates = {}, .numbers = {}};
  ClusterConfig& config = cluster.config;
  LoadText(path, config);
  ClusterCheck(path, config).Run();
  ListNumbers(config, "", cluster.numbers);
  SetOrigins(path, config, cluster.numbers);
  const bool shares_adapters = config.adapters_per_node() > 0;
  const double share = shares_adapters ? double{1} * config.adapters_per_node() / config.ranks_per_node() : 1;
  cluster.description = {.ranks_per_node = config.ranks_per_node(),
                         .intra_node = WireOf(config.intra_node(), 1),
                         .inter_node = WireOf(config.inter_node(), share),
                         .compute_scale = config.compute_scale(),
                         .overlap = config.overlap(),
                         .work_is_told = config.processor().emulate()};
  cluster.rates = RatesOf(config.processor());
  AssumeNoise(cluster);
  return cluster;
}

ClusterDescription LoadCluster(const std::string& path) {
  return LoadClusterFile(path).description;
}

void CheckForPlan(const Cluster& cluster, int ranks) {
  const ClusterConfig& config = cluster.config;
  const int per_node = config.ranks_per_node();
  Problems problems;
  const auto add = [&](const std::string& text) { problems.Add(cluster.path + ": " + text); };
  const auto check_wire = [&](const char* name, bool is_needed, bool is_given, const WireConfig& wire) {
    if (!is_needed) return;
    if (!is_given) {
      add(
          Format("%s: is missing, and %d ranks have such wires; give its latency_us and "
                 "gigabytes_per_second, or %s { } for one that costs nothing",
                 name, ranks, name));
    } else if (wire.has_gigabytes_per_second() && wire.gigabytes_per_second() == 0) {
      add(Format(
          "%s.gigabytes_per_second: is 0; must be more than 0, or left out for an infinitely fast wire",
          name));
    }
  };
  check_wire("intra_node", ranks > 1 && per_node != 1, config.has_intra_node(), config.intra_node());
  check_wire("inter_node", per_node > 0 && ranks > per_node, config.has_inter_node(), config.inter_node());
  if (const int nodes = config.nodes(); nodes > 0) {
    const int most = nodes * std::max(1, per_node);
    if (per_node > 0 && ranks > most) {
      add(
          Format("nodes: is %d, with ranks_per_node %d ranks each: room for %d ranks, and the layout has %d; "
                 "set parallel.ranks to at most %d",
                 nodes, per_node, most, ranks, most));
    }
  }
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    const WorkRate& rate = cluster.rates[kind];
    if (!rate.points.empty() || rate.fixed_seconds > 0) continue;
    add(
        Format("processor.work: has no %s; a plan needs the rate of each kind of work: `unipool calibrate` "
               "measures them",
               Work::Kind_Name(static_cast<Work::Kind>(kind)).c_str()));
  }
  problems.ThrowIfAny();
}

std::vector<int> NodesOf(const Config& config, const World& world) {
  std::vector<int> nodes;
  if (world.emulation) {
    const ClusterDescription cluster = LoadCluster(config.parallel().emulate());
    for (int rank = 0; rank < world.size(); ++rank) nodes.push_back(cluster.NodeOf(rank));
    return nodes;
  }
  std::vector<std::string> hosts;
  for (int rank = 0; rank < world.size(); ++rank) {
    auto found = std::find(hosts.begin(), hosts.end(), world.hosts[rank]);
    if (found == hosts.end()) found = hosts.insert(hosts.end(), world.hosts[rank]);
    nodes.push_back(static_cast<int>(found - hosts.begin()));
  }
  return nodes;
}

}  // namespace unipool
