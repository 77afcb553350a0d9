// A router of the settings is a router of the kernels, of the same name; none is left out of the list that
// tests and benches go through.
#include <gtest/gtest.h>

#include <set>

#include "models/settings.h"

namespace unipool {
namespace {

TEST(RouterKinds, SettingsAndKernelsHaveTheSame) {
  const std::set<RouterKind> all(std::begin(kAllRouterKinds), std::end(kAllRouterKinds));
  EXPECT_EQ(all.size(), std::size(kAllRouterKinds));
  const auto* types = RouterType::Value_descriptor();
  std::set<RouterKind> named;
  for (int i = 0; i < types->value_count(); ++i) {
    const auto type = static_cast<RouterType::Value>(types->value(i)->number());
    EXPECT_EQ(RouterType::Value_Name(type), NameOf(RouterKindOf(type)));
    named.insert(RouterKindOf(type));
  }
  EXPECT_EQ(named, all);
}

}  // namespace
}  // namespace unipool
