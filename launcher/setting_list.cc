#include "launcher/setting_list.h"

#include <glog/logging.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include "configs/config_descriptor.h"  // made of config.proto at each build
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace pb = google::protobuf;

// "// a\n// b" as "a b".
std::string Paragraph(const std::string& comment) {
  std::string text;
  for (const char c : comment) {
    const bool is_blank = c == ' ' || c == '\n';
    if (!is_blank || (!text.empty() && text.back() != ' ')) text += is_blank ? ' ' : c;
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

template <class Descriptor>
std::string Comment(const Descriptor& descriptor) {
  pb::SourceLocation location;
  if (!descriptor.GetSourceLocation(&location)) return "";
  return Paragraph(location.leading_comments + " " + location.trailing_comments);
}

std::string Default(const pb::FieldDescriptor& field) {
  if (field.is_repeated()) return "";
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return Format("%d", field.default_value_int32());
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return Format("%d", field.default_value_int64());
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      return Format("%d", field.default_value_uint64());
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      return Format("%g", field.default_value_double());
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return field.default_value_bool() ? "true" : "false";
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return std::string(field.default_value_enum()->name());
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return std::string(field.default_value_string());
    default:
      LOG(FATAL) << "a setting of a type that has no default: " << field.full_name();
  }
}

void AddFields(const pb::Descriptor& message, const std::string& prefix, std::vector<SettingInfo>& list) {
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    const std::string path = prefix + std::string(field.name());
    if (field.message_type()) {
      AddFields(*field.message_type(), path + ".", list);
      continue;
    }
    SettingInfo info{.path = path, .preset = Default(field), .meaning = Comment(field), .values = {}};
    const pb::EnumDescriptor* kind = field.enum_type();
    for (int v = 0; kind && v < kind->value_count(); ++v) {
      info.values.push_back(
          {.name = std::string(kind->value(v)->name()), .meaning = Comment(*kind->value(v))});
    }
    list.push_back(std::move(info));
  }
}

}  // namespace

std::vector<SettingInfo> SettingList() {
  pb::FileDescriptorSet files;
  CHECK(files.ParseFromArray(kConfigDescriptor, sizeof(kConfigDescriptor)));
  pb::DescriptorPool pool;
  for (const pb::FileDescriptorProto& file : files.file()) CHECK(pool.BuildFile(file));
  const pb::Descriptor* config = pool.FindMessageTypeByName("unipool.Config");
  CHECK(config);
  std::vector<SettingInfo> list;
  AddFields(*config, "", list);
  return list;
}

}  // namespace unipool
