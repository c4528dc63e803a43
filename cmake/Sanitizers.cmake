# -DBERTOLOGY_SANITIZE=address,undefined builds everything of ours with these sanitizers.
if(BERTOLOGY_SANITIZE)
  add_compile_options(-fsanitize=${BERTOLOGY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${BERTOLOGY_SANITIZE})
endif()
