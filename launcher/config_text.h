// What config.cc needs of protobuf's text format beyond parsing: setting one field from text with a sentence
// when it does not fit, and finding everything that is wrong in a file that does not parse.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

namespace unipool {

// The fields of a message by name, and the paths of all fields that are not messages ("model.layers",
// "run_dir").
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);
std::vector<std::string> LeafPaths(const google::protobuf::Descriptor& message,
                                   const std::string& prefix = "");

// What an unknown field of `message` (named by `path`) probably was meant to be; `root` is the whole schema.
std::string SuggestField(const google::protobuf::Descriptor& root,
                         const google::protobuf::Descriptor& message, const std::string& path);

// Sets (or, if repeated, adds) a field that is not a message from one value in text format. Returns "" or
// what was expected and found: `expected a whole number, found "abc"`.
std::string SetFieldFromText(google::protobuf::Message& message,
                             const google::protobuf::FieldDescriptor& field, const std::string& value);

// All problems of a text that protobuf refused, each beginning with "FILE:LINE: ". Empty when only its syntax
// is wrong in a way that this function does not explain.
std::vector<std::string> DiagnoseConfigText(const google::protobuf::Message& schema, const std::string& file,
                                            const std::string& text);

}  // namespace unipool
