cd VLMEvalKit
python run.py --data \
MindCubeBench_tiny_raw_qa \
ViewSpatialBench \
EmbSpatialBench \
MMSIBench_wo_circular \
VSI-Bench_32frame \
SiteBenchImage \
SiteBenchVideo_32frame \
BLINK \
3DSRBench \
--model {your_model} \
--verbose --reuse --judge gpt-4o-1120
